"""Speaker verification: a background model, enrolment, trials and their scores, and decisions that follow from costs.

Names are loaded when they are first used: compiled code takes a moment.
"""
