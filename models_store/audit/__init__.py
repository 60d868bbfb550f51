"""The audit log: hash chains, their heads, and the verification of both.

Written by the stores and the policy; read by `scalpel audit`.
"""
