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
