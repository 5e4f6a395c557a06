"""Who may do what: changes of the registry by the authority and by agencies, and a look at it."""
