//! order-router.
