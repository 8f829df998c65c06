//! Messages made by hand, through the whole ladder.
