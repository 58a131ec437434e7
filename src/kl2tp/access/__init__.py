"""Who may in, and with which addresses: files with secrets, users, address pools, and what wrong passwords cost."""
