//! Real AWS STS and EC2, asked with limits, caches and coalescing.
