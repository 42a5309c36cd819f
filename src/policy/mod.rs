//! Policies, from text to compiled rules.
