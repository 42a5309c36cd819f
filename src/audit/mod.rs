//! A line for each request and each answer, hashed and chained.
