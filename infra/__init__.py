"""The CDK stack: what is deployed, with which names, rights and time limits."""
