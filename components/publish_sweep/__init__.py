"""Put a sweep's reports and its winners' figures into the store."""
