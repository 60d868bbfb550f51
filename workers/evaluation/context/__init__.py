"""What an edit is measured against, with what, and how much is measured.

Made once for an edit; handed to every measurement.
"""
