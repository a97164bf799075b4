//! Mistakes in the brackets.

use larder::{Cache, cached};

type Answer = Result<u64, larder::LoadError<std::convert::Infallible>>;

#[cached(tll = "24h")]
async fn misspelt(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(stale_while_revalidate = "1h")]
async fn by_its_long_name(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(whatever = 3)]
async fn unheard_of(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(ttl = "24x")]
async fn no_duration(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(ttl = 60)]
async fn no_unit(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(ttl = "0s")]
async fn too_short(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(ttl = "1h", ttl = "2h")]
async fn twice(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(memory_only = true)]
async fn flag_with_a_value(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(memory_only, remote_only)]
async fn no_tier(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(tags)]
async fn no_value(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(policy = larder::Policy::default(), jitter = 0.1)]
async fn two_policies(cache: &Cache) -> Answer {
    Ok(1)
}

#[cached(namespace = "trig:logs")]
async fn no_name(cache: &Cache) -> Answer {
    Ok(1)
}

fn main() {}
