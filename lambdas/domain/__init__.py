"""The rules, pure: no boto3, clock, randomness, environment or logging; time and ids come in as arguments."""
