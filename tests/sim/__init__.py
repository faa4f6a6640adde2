"""The seeded simulation: production code from ``reconcile`` down, attacked at every call, judged by what EC2 has."""
