"""One file for each Lambda function: parse, call, return."""
