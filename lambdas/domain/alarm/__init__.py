"""Domain, alarms: which pools an alarm is about, and what its message to people says."""
