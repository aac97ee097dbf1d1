//! What the tests of Redis's faults share.
use std::time::Duration;

use jobwire_redis_rig::Redis;
use jobwire_tests::{server::Store, site::Site};

/// Service is back so long after Redis is, at the latest.
pub const BACK: Duration = Duration::from_secs(5);
/// Outcomes and leases that an outage has delayed are settled within this.
pub const DRAIN: Duration = Duration::from_secs(60);
const SERVERS: usize = 2;
/// What servers say while Redis does not do what it should.
const EXPECTED: [&str; 4] = ["store", "Redis", "redis", "script"];

/// Two servers on this Redis, which may complain of it.
pub fn site(redis: &Redis) -> Site {
    site_at(&redis.url())
}

/// Two servers on the Redis of this URL.
pub fn site_at(url: &str) -> Site {
    let mut site = Site::on(&Store::redis(url), SERVERS, &[]);
    EXPECTED.iter().for_each(|text| site.allow(text));
    site
}
