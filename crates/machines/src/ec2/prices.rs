//! What machines cost: the price list as AWS tells it, and a table for the time without it.
//!
//! Owns reading a product of the list, and the table with its date. Amounts are of the region's own currency; within
//! a cluster they are compared with each other only.

use model::MicroUsdPerHour;
use serde_json::Value;
use std::collections::BTreeMap;

/// When the table below was made, from the public list of us-east-1, for Linux.
pub(super) const TABLE_OF: &str = "2025-01-15";

/// Families with the price of one core in millionths of a dollar an hour. Sizes of a family cost by their cores.
const BY_CORE: &[(&str, u64)] = &[
    ("c4", 49_750),
    ("c5", 42_500),
    ("c5a", 38_500),
    ("c5d", 48_000),
    ("c5n", 54_000),
    ("c6a", 38_250),
    ("c6g", 34_000),
    ("c6gd", 38_400),
    ("c6gn", 43_200),
    ("c6i", 42_500),
    ("c6id", 50_400),
    ("c6in", 56_700),
    ("c7a", 51_320),
    ("c7g", 36_250),
    ("c7gd", 45_350),
    ("c7gn", 62_400),
    ("c7i", 44_625),
    ("c7i-flex", 42_395),
    ("c8g", 39_880),
    ("g4ad", 94_625),
    ("g4dn", 131_500),
    ("g5", 251_500),
    ("g6", 201_200),
    ("i3", 78_000),
    ("i3en", 113_000),
    ("i4g", 77_210),
    ("i4i", 85_800),
    ("inf1", 57_000),
    ("inf2", 189_550),
    ("m4", 50_000),
    ("m5", 48_000),
    ("m5a", 43_000),
    ("m5ad", 51_500),
    ("m5d", 56_500),
    ("m5n", 59_500),
    ("m5zn", 82_600),
    ("m6a", 43_200),
    ("m6g", 38_500),
    ("m6gd", 45_200),
    ("m6i", 48_000),
    ("m6id", 59_325),
    ("m6in", 69_615),
    ("m7a", 57_960),
    ("m7g", 40_800),
    ("m7gd", 53_400),
    ("m7i", 50_400),
    ("m7i-flex", 47_880),
    ("m8g", 44_880),
    ("p3", 382_500),
    ("r4", 66_500),
    ("r5", 63_000),
    ("r5a", 56_500),
    ("r5ad", 65_500),
    ("r5b", 74_500),
    ("r5d", 72_000),
    ("r5n", 74_500),
    ("r6a", 56_700),
    ("r6g", 50_400),
    ("r6gd", 57_600),
    ("r6i", 63_000),
    ("r6id", 75_600),
    ("r6in", 87_185),
    ("r7a", 76_080),
    ("r7g", 53_550),
    ("r7gd", 68_050),
    ("r7i", 66_150),
    ("r8g", 58_905),
    ("x1e", 208_500),
    ("x2gd", 83_500),
    ("z1d", 93_000),
];
/// Bursting types have equal cores at different sizes: their prices one by one.
const BY_TYPE: &[(&str, u64)] = &[
    ("t2.large", 92_800),
    ("t2.medium", 46_400),
    ("t2.micro", 11_600),
    ("t2.small", 23_000),
    ("t2.xlarge", 185_600),
    ("t2.2xlarge", 371_200),
    ("t3.large", 83_200),
    ("t3.medium", 41_600),
    ("t3.micro", 10_400),
    ("t3.nano", 5_200),
    ("t3.small", 20_800),
    ("t3.xlarge", 166_400),
    ("t3.2xlarge", 332_800),
    ("t3a.large", 75_200),
    ("t3a.medium", 37_600),
    ("t3a.micro", 9_400),
    ("t3a.nano", 4_700),
    ("t3a.small", 18_800),
    ("t3a.xlarge", 150_400),
    ("t3a.2xlarge", 300_800),
    ("t4g.large", 67_200),
    ("t4g.medium", 33_600),
    ("t4g.micro", 8_400),
    ("t4g.nano", 4_200),
    ("t4g.small", 16_800),
    ("t4g.xlarge", 134_400),
    ("t4g.2xlarge", 268_800),
];

/// The table's price of a type; none for what it does not list.
pub(super) fn tabled(kind: &str, cores: u64) -> Option<MicroUsdPerHour> {
    let of_type = BY_TYPE.iter().find(|(name, _)| *name == kind).map(|(_, price)| *price);
    let family = kind.split('.').next().unwrap_or_default();
    let by_core = || BY_CORE.iter().find(|(name, _)| *name == family).map(|(_, price)| price * cores);
    of_type.or_else(by_core).map(MicroUsdPerHour)
}

/// On-demand prices by type, from the products of the list. Products that are no machines, or cost nothing, are left
/// out.
pub(super) fn listed(products: &[String]) -> BTreeMap<String, MicroUsdPerHour> {
    products.iter().filter_map(|text| product(&serde_json::from_str(text).ok()?)).collect()
}

fn product(product: &Value) -> Option<(String, MicroUsdPerHour)> {
    let kind = product.pointer("/product/attributes/instanceType")?.as_str()?;
    let terms = product.pointer("/terms/OnDemand")?.as_object()?;
    let dimensions = terms.values().filter_map(|term| term.get("priceDimensions")?.as_object());
    let prices = dimensions.flat_map(serde_json::Map::values).filter_map(|dimension| {
        // One currency a region: USD, or CNY in China.
        let amounts = dimension.get("pricePerUnit")?.as_object()?;
        amounts.values().find_map(|amount| micro(amount.as_str()?))
    });
    prices.filter(|price| price.0 > 0).min().map(|price| (kind.to_owned(), price))
}

/// A decimal number of units an hour, in millionths.
pub(super) fn micro(text: &str) -> Option<MicroUsdPerHour> {
    let amount: f64 = text.trim().parse().ok()?;
    let millionths = (amount * 1e6).round();
    (amount.is_finite() && (0.0..=1e15).contains(&millionths)).then_some(MicroUsdPerHour(millionths as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_read_in_the_currency_of_their_region() {
        let product = |kind: &str, currency: &str, amount: &str| {
            serde_json::json!({
                "product": {"attributes": {"instanceType": kind}},
                "terms": {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": {
                    "unit": "Hrs", "pricePerUnit": {currency: amount},
                }}}}},
            })
            .to_string()
        };
        let list = [
            product("t3a.large", "CNY", "0.4810000000"),
            product("m5.large", "USD", "0.0960000000"),
            product("free.large", "USD", "0.0000000000"),
            "{}".to_owned(),
            "no product".to_owned(),
        ];
        let prices = listed(&list);
        assert_eq!(prices.len(), 2);
        assert_eq!((prices["t3a.large"].0, prices["m5.large"].0), (481_000, 96_000));
    }

    #[test]
    fn the_table_tells_what_it_lists_and_nothing_else() {
        assert_eq!(tabled("m5.4xlarge", 16), Some(MicroUsdPerHour(768_000)));
        assert_eq!(tabled("t3.small", 2), Some(MicroUsdPerHour(20_800)));
        assert_eq!(tabled("u-24tb1.metal", 448), None);
        assert!(BY_CORE.is_sorted() && BY_CORE.windows(2).all(|pair| pair[0].0 != pair[1].0));
    }
}
