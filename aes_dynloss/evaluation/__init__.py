"""Agreement of predicted with human scores, in the vocabulary of educational measurement.

Works from predictions alone: it knows scores and files of scores, and no model.
"""
