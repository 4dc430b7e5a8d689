"""Systems of several rows at once, and derivatives by those of one row.

Without a gain, L rows of the recursion are one row of another system (the lifted one; Bittanti &
Colaneri, *Periodic Systems*, 2009): with B' = A B and D' = C B + D,

    s_{t+L}                       [ A^L | A^{L-1} B'  ...       A B'  B' ]   s_t
    yhat_t                        [ C   | D'                             ]   u_t
    yhat_{t+1} - offset        =  [ C A | C B'        D'                 ]   u_{t+1}
    ..                            [ ..  | ..                             ]   ..
    yhat_{t+L-1} - offset         [ C A^{L-1} | C A^{L-2} B' ... C B' D' ]   u_{t+L-1}

With a gain L is 1, and the innovation of the row has the gain K' = A K.

The products with A, which are most of the work where A is full, come once in L rows. L is a power
of 2, and A^L is squared from A.
"""

from mtds_sklearn.kernels._written_out import Matrix, Sizes, add_matrix, add_product, written_out


def transition(place, sizes: Sizes) -> Matrix:
    """A matrix of the form of A: full, or blocks of two."""
    n = sizes.n
    if not sizes.modal:
        return Matrix(place, n, n)
    kept = {}
    for i in range(n):
        first = i - i % 2
        kept |= {(i, j): 2 * i + j - first for j in range(first, min(first + 2, n))}
    return Matrix(place, n, n, kept=kept)


class System:
    """A, B, C, D, K of a row, and all that the lifted system is made of, as matrices in W.

    `powers` are A, A^2, .., A^L; `responses` B_j = A^j B', `outputs` C_j = C A^j, and `echoes` H_0
    = D', H_j = C_{j-1} B', in which the lifted `B`, `C`, `D` come in pieces; `echoes` are given as
    the lists of equal blocks of D.
    """

    def __init__(self, at, sizes: Sizes, suffix: str = "") -> None:
        n, m, p, L = sizes.n, sizes.m, sizes.p, sizes.together

        def place(name):
            return getattr(at, name + suffix)

        self.A = transition(place("A"), sizes)
        self.B, self.C = Matrix(place("B"), n, m), Matrix(place("C"), p, n)
        self.D, self.K = Matrix(place("D"), p, m), Matrix(place("K"), n, p)
        self.lifted_K = Matrix(place("K_lifted"), n, p)
        width = n * (2 if sizes.modal else n)
        higher = [place("A_powers").after(width * i) for i in range(L.bit_length() - 1)]
        self.powers = [self.A] + [transition(power, sizes) for power in higher]
        self.lifted_A, self.lifted_C = self.powers[-1], Matrix(place("C_lifted"), L * p, n)
        self.lifted_B, D = Matrix(place("B_lifted"), n, L * m), place("D_lifted")
        self.responses = [self.lifted_B.part(0, (L - 1 - j) * m, n, m) for j in range(L)]
        self.outputs = [self.lifted_C.part(j * p, 0, p, n) for j in range(L)]
        every = Matrix(D, L * p, L * m)
        self.echoes = [
            [every.part((i + j) * p, i * m, p, m) for i in range(L - j)] for j in range(L)
        ]
        below = {(i, j): where for (i, j), where in every.kept.items() if j // max(m, 1) <= i // p}
        self.lifted_D = Matrix(D, L * p, L * m, kept=below)


@written_out
def lift(at, first, count, sizes: Sizes):
    """Fill the lifted matrices, which are zero, from A, B, C, D and K."""
    of = System(at, sizes)
    for power, square in zip(of.powers, of.powers[1:], strict=False):
        add_product(at, square, power, power)
    add_product(at, of.responses[0], of.A, of.B)
    add_matrix(of.outputs[0], of.C)
    for j in range(1, sizes.together):
        add_product(at, of.responses[j], of.A, of.responses[j - 1])
        add_product(at, of.outputs[j], of.outputs[j - 1], of.A)
    if sizes.gain:
        add_product(at, of.lifted_K, of.A, of.K)
    add_matrix(of.echoes[0][0], of.D)
    add_product(at, of.echoes[0][0], of.C, of.B)
    for j, (echo, *copies) in enumerate(of.echoes):
        if j > 0:
            add_product(at, echo, of.outputs[j - 1], of.responses[0])
        for copy in copies:
            add_matrix(copy, echo)


@written_out
def pull_back(at, first, count, sizes: Sizes):
    """Add derivatives by A, B, C, D, K to theirs, from those by the lifted matrices.

    Every product of `lift`, in reverse: of X = Y Z they are g(Y) = g(X) Z' and g(Z) = Y' g(X).
    """
    of, by = System(at, sizes), System(at, sizes, "_slope")

    def undo(g_product, g_left, left, g_right, right):
        add_product(at, g_left, g_product, right.T)
        add_product(at, g_right, left.T, g_product)

    for j in range(sizes.together - 1, -1, -1):
        echo, *copies = by.echoes[j]
        for copy in copies:
            add_matrix(echo, copy)
        if j > 0:
            undo(echo, by.outputs[j - 1], of.outputs[j - 1], by.responses[0], of.responses[0])
    add_matrix(by.D, by.echoes[0][0])
    undo(by.echoes[0][0], by.C, of.C, by.B, of.B)
    for j in range(sizes.together - 1, 0, -1):
        undo(by.responses[j], by.A, of.A, by.responses[j - 1], of.responses[j - 1])
        undo(by.outputs[j], by.outputs[j - 1], of.outputs[j - 1], by.A, of.A)
    add_matrix(by.C, by.outputs[0])
    undo(by.responses[0], by.A, of.A, by.B, of.B)
    if sizes.gain:
        undo(by.lifted_K, by.A, of.A, by.K, of.K)
    for i in range(len(of.powers) - 1, 0, -1):
        undo(by.powers[i], by.powers[i - 1], of.powers[i - 1], by.powers[i - 1], of.powers[i - 1])
