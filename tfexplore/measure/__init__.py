"""Time, events and memory traffic measured honestly, and results recorded on other machines."""
