"""What was learnt, found or compared, as people see it: rich's tables, colours and bars, for terminals and pages."""
