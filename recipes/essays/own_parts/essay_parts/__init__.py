"""A loss, a schedule, a teacher and a feature for aes-dynloss; each module is imported when its part is needed."""
