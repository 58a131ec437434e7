"""The L2TP control protocol, sans-IO: reliable delivery, tunnel and call machines."""
