//! Auth methods: wings that turn what a caller shows into a token, or look after tokens.
//!
//! A method never mints: it answers with a wish, and the pipeline makes the token.
//!
//! - `token/`: the tokens themselves

pub mod token;
