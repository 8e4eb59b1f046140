//! Draws from the binomial and the Poisson distribution.
//!
//! By inversion where the mean is small, and from the normal distribution where it is not: the simulator needs the mean and the
//! spread of counts, not their far tails. (rand_distr draws exactly; it switches features of num-traits on that half of the
//! workspace would be built with.)

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// From this mean on, the normal distribution is near enough.
const LARGE: f64 = 30.0;

/// How many of `n` it happens to, each with this chance.
pub(crate) fn binomial(n: u32, chance: f64, rng: &mut Xoshiro256PlusPlus) -> u32 {
    if n == 0 || chance <= 0.0 {
        return 0;
    }
    if chance >= 1.0 {
        return n;
    }
    if chance > 0.5 {
        return n - binomial(n, 1.0 - chance, rng);
    }
    let mean = f64::from(n) * chance;
    if mean >= LARGE {
        return normal(mean, (mean * (1.0 - chance)).sqrt(), rng).min(u64::from(n)) as u32;
    }
    let odds = chance / (1.0 - chance);
    let mut share = (f64::from(n) * (-chance).ln_1p()).exp();
    let mut left: f64 = rng.random();
    let mut count = 0;
    while left > share && count < n {
        left -= share;
        count += 1;
        share *= odds * f64::from(n - count + 1) / f64::from(count);
    }
    count
}

/// How often something happens that happens this often on average.
pub(crate) fn poisson(mean: f64, rng: &mut Xoshiro256PlusPlus) -> u64 {
    if mean <= 0.0 {
        return 0;
    }
    if mean >= LARGE {
        return normal(mean, mean.sqrt(), rng);
    }
    let mut share = (-mean).exp();
    let mut left: f64 = rng.random();
    let mut count = 0;
    while left > share && share > 0.0 {
        left -= share;
        count += 1;
        share *= mean / count as f64;
    }
    count
}

/// Rounded, and never below zero (Box and Muller).
fn normal(mean: f64, deviation: f64, rng: &mut Xoshiro256PlusPlus) -> u64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    let radius = (-2.0 * (1.0 - radius).ln()).sqrt();
    (mean + deviation * radius * (std::f64::consts::TAU * angle).cos()).round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Mean and variance of many draws.
    fn moments(draw: impl Fn(&mut Xoshiro256PlusPlus) -> f64) -> (f64, f64) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let draws: Vec<f64> = (0..100_000).map(|_| draw(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        (mean, draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64)
    }

    fn is_near(found: (f64, f64), expected: (f64, f64)) {
        let near = |found: f64, expected: f64| (found - expected).abs() <= expected * 0.03 + 0.003;
        assert!(near(found.0, expected.0) && near(found.1, expected.1), "{found:?}, not {expected:?}");
    }

    #[test]
    fn binomial_draws_have_its_mean_and_its_variance() {
        for (n, chance) in [(2000, 0.0005), (10, 0.3), (40, 0.5), (1000, 0.1), (50, 0.9)] {
            let (mean, spread) = (f64::from(n) * chance, f64::from(n) * chance * (1.0 - chance));
            is_near(moments(|rng| f64::from(binomial(n, chance, rng))), (mean, spread));
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        assert_eq!((binomial(7, 0.0, &mut rng), binomial(7, 1.0, &mut rng), binomial(0, 0.5, &mut rng)), (0, 7, 0));
    }

    #[test]
    fn poisson_draws_have_its_mean_and_its_variance() {
        for mean in [0.01, 1.0, 12.0, 29.0, 300.0] {
            is_near(moments(|rng| poisson(mean, rng) as f64), (mean, mean));
        }
    }
}
