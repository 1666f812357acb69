"""What a training will need, before it is begun: size.py counts, probe.py measures, forecast.py adds up."""
