/* The tiles that can be computed: X(outputs, kernel). Points: 0 where their number is even, pairs +-p, infinity. */
#define TILE_SIZES(X) X(4, 3) X(6, 3) X(8, 3) X(4, 7) X(6, 7) X(8, 7) X(4, 11) X(5, 11) X(6, 11)
