"""The two drivers: asyncio and blocking. Nothing else knows which one runs a function."""
