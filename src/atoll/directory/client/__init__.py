"""The directory as its askers see it: values, sign-in, recipients, token checks. Knows no database."""
