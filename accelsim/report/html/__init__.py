"""A run as one HTML page that needs nothing else: figures and the tables behind them, the configuration, what to do."""
