"""The families a body serves, one file of declared differences each."""
