//! What an answer to a POST proves: one pure function, a whitelist.
