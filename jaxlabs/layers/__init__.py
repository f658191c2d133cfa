"""The ground floor: pure functions and the linen modules around them."""
