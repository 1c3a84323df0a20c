"""What a table of finished runs says about scaling."""
