"""Who asks and what they may do: request context, token verification, policy rules."""
