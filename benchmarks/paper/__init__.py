"""The paper's own table, measured again.

Run by `make paper-table`.
"""
