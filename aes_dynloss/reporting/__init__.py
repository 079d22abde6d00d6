"""Pages and files for those who read a report: html with its pictures, and what other programs take."""
