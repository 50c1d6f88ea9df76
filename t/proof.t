#!/usr/bin/perl

# Tests for doc/proof.md: the tests that it names are there, and in them the
# cases.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $top = "$FindBin::Bin/..";
my $page = slurp('doc/proof.md');

my (%scenario, $last);

for ($page =~ /^\|(.*)\|$/mg) {
    my ($scenario, $file, $case) = map { s/^\s+|\s+$//gr } split /\|/;

    next if $scenario =~ /^-/ || $file eq 'test';

    $last = $scenario if $scenario ne '';
    push @{$scenario{$last}}, [map { s/^`|`$//gr } $file, $case];
}

cmp_ok(scalar keys %scenario, '>=', 40, 'scenarios');

for my $scenario (sort keys %scenario) {
    my @lost;

    for (@{$scenario{$scenario}}) {
        my ($file, $case) = @$_;
        my $text = -f "$top/$file" ? slurp($file) : '';

        push @lost, $file if $text eq '';
        push @lost, "$file: $case"
            if $text ne '' && !has_case($file, $text, $case);
    }

    is_deeply(\@lost, [], $scenario);
}

# every test that the page names anywhere is there

is_deeply([grep { !-e "$top/$_" } $page =~ m{\b(t/[\w/]+\.[tc])\b}g], [],
    'files');

done_testing();

###############################################################################

# a unit test is run, not only written; in Perl the case is a name, or what
# stands above some of them

sub has_case {
    my ($file, $text, $case) = @_;

    return $text =~ /cmocka_unit_test\w*\(\Q$case\E[,)]/ if $file =~ /\.c$/;

    $text =~ s/^\s*#.*$//mg unless $text =~ /^\s*# \Q$case\E/m;

    return index($text, $case) >= 0;
}


sub slurp {
    my ($name) = @_;

    open my $f, '<', "$top/$name" or die "$name: $!\n";
    local $/;

    return scalar <$f>;
}

###############################################################################
