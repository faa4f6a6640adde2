"""What is known, as data: status, plan, results, instances."""
