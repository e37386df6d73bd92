from twofold.prefetch import prefetch as prefetch
