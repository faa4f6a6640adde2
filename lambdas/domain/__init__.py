"""The rules. Pure code: no boto3, clock, randomness, environment or logging; time and ids are arguments."""
