//! larder-redis
