"""The control plane: reconciles pools of EC2 instances with the items users keep in DynamoDB."""
