"""How a request becomes work: its body, the checks, the records.

Called by the routes that create work.
"""
