"""What a server writes, read without trusting it: headers, problem documents, quotas in prose. Pure machines."""
