"""The command `robust-xlt`: each verb is a thin file that parses, calls and prints."""
