"""From values to what a terminal shows: rich renderables, with the arithmetic apart from them."""
