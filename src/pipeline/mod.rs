//! One way in: from a request to a released answer.
