use std::collections::HashMap;

use super::Table;

/// Hashes that collide in pages, in cells and altogether.
fn hash(key: u32) -> u64 {
    match key % 4 {
        0 => u64::from(key / 16) << 40,
        1 => u64::MAX,
        2 => u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        _ => u64::from(key),
    }
}

#[test]
fn a_table_behaves_like_a_map_through_growth_and_removal_and_leaves_older_versions_alone() {
    let mut table: Table<(u32, u32)> = Table::default();
    let mut model: HashMap<u32, u32> = HashMap::new();
    let mut state = 1_u32;
    let mut versions = Vec::new();
    for step in 0..20_000_u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let key = (state >> 16) % 3_000;
        if step % 3 == 2 {
            table.remove(hash(key), |entry| entry.0 == key);
            model.remove(&key);
        } else {
            let entry = table.entry(hash(key), |entry| entry.0 == key, || (key, 0));
            entry.unwrap().1 = step;
            model.insert(key, step);
        }
        assert_eq!(table.len(), model.len());
        if step % 2_500 == 0 {
            versions.push((table.clone(), model.clone()));
        }
    }
    versions.push((table, model));
    for (table, model) in versions {
        for key in 0..3_000 {
            let found = table.get(hash(key), |entry| entry.0 == key);
            assert_eq!(found.map(|entry| entry.1), model.get(&key).copied());
        }
    }
}
