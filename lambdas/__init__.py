"""The control plane: reconciles pools of EC2 instances with the items users keep in DynamoDB."""

__version__ = "0.1.0"
"""The only place that defines the version: of the package, of the stack (its output Version) and of the command."""
