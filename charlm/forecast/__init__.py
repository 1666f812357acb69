"""What a training will need, before it is begun: size.py counts, speed.py measures, forecast.py adds up."""
