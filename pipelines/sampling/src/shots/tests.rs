use super::*;

#[test]
fn shots_fill_the_video() {
    let cut = |at: usize| Transition {
        from: at - 1,
        to: at,
        score: 1.0,
    };
    let fade = Transition {
        from: 20,
        to: 31,
        score: 1.0,
    };
    assert_eq!(shots(40, &[]), [(0, 39)]);
    assert_eq!(shots(40, &[cut(10), fade]), [(0, 9), (10, 25), (26, 39)]);
    assert!(cut(10).is_cut() && !fade.is_cut());
    assert_eq!((cut(10).at(), fade.at()), (10, 26));
}

const SIZE: (usize, usize) = (64, 36);

/// A picture of waves: `seed` says which scene, `shift` how far the camera has moved.
fn scene(seed: usize, shift: usize) -> Vec<u8> {
    let wave = |x: usize, scale: usize| (x * (seed * 7 + scale) / 3 % 128).abs_diff(64) * 2;
    let pixel = |x: usize, y: usize| {
        let red = wave(x + shift, 5) + wave(y, 11) / 2;
        let green = wave(x + shift + y, 3 + seed);
        let blue = wave(y + seed * 20, 4);
        [red, green, blue].map(|value| u8::try_from(value.min(255)).unwrap())
    };
    let places = (0..SIZE.1).flat_map(|y| (0..SIZE.0).map(move |x| (x, y)));
    places.flat_map(|(x, y)| pixel(x, y)).collect()
}

fn mixed(a: &[u8], b: &[u8], share: f32) -> Vec<u8> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between two bytes"
    )]
    let mix = |(&a, &b): (&u8, &u8)| (f32::from(a) * share + f32::from(b) * (1.0 - share)).round() as u8;
    a.iter().zip(b).map(mix).collect()
}

fn detect(pictures: &[Vec<u8>]) -> Vec<(usize, usize)> {
    let mut detector = Box::new(ContentDetector::new());
    for picture in pictures {
        detector.push(picture).unwrap();
    }
    let found = detector.finish(0.5).unwrap();
    found.iter().map(|found| (found.from, found.to)).collect()
}

#[test]
fn a_cut_is_found_where_it_is() {
    let pictures: Vec<_> = (0..80).map(|at| scene(if at < 33 { 1 } else { 4 }, 0)).collect();
    assert_eq!(detect(&pictures), [(32, 33)]);
    assert_eq!(detect(&pictures[..33]), []);
}

#[test]
fn a_flash_or_a_camera_that_moves_is_no_cut() {
    let mut pictures: Vec<_> = (0..80).map(|at| scene(2, at)).collect();
    assert_eq!(detect(&pictures), [], "a pan");
    for picture in &mut pictures[40..42] {
        *picture = vec![250; picture.len()];
    }
    assert_eq!(detect(&pictures), [], "a flash in it");
}

#[test]
fn gradual_changes_are_found_with_their_extent() {
    let (a, b, black) = (scene(1, 0), scene(4, 0), vec![0; SIZE.0 * SIZE.1 * 3]);
    let ramp = |from: &[u8], to: &[u8]| {
        (1..=12)
            .map(|at| mixed(from, to, 1.0 - at as f32 / 13.0))
            .collect::<Vec<_>>()
    };
    let hold = |picture: &Vec<u8>| vec![picture.clone(); 40];
    let dissolve = [hold(&a), ramp(&a, &b), hold(&b)].concat();
    let [(from, to)] = detect(&dissolve)[..] else {
        panic!("{:?}", detect(&dissolve))
    };
    assert!(
        (38..=42).contains(&from) && (50..=54).contains(&to),
        "{from}..{to}"
    );
    let fade = [hold(&a), ramp(&a, &black), ramp(&black, &b), hold(&b)].concat();
    let [(from, to)] = detect(&fade)[..] else {
        panic!("{:?}", detect(&fade))
    };
    assert!(
        (38..=44).contains(&from) && (60..=66).contains(&to),
        "{from}..{to}"
    );
    let opening = [vec![black.clone(); 20], ramp(&black, &b), hold(&b)].concat();
    assert_eq!(detect(&opening), [], "nothing was shown before");
}

#[test]
fn light_that_changes_is_no_change_of_shot() {
    let (a, dark) = (scene(3, 0), vec![0; SIZE.0 * SIZE.1 * 3]);
    let pictures: Vec<_> = (0..90_u8)
        .map(|at| mixed(&a, &dark, 0.4 + f32::from(at) / 150.0))
        .collect();
    assert_eq!(detect(&pictures), []);
}

#[test]
fn pictures_of_another_size_are_refused() {
    let error = ContentDetector::new().push(&[0; 30]).unwrap_err();
    assert_eq!(
        error,
        ShotError::WrongSize {
            expected: 6912,
            actual: 30
        }
    );
}
