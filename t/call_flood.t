#!/usr/bin/perl

# Tests for a client that floods a slow core with what gets no answer: ringing
# without end, 200 again and again, ACK. No link is broken for it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(17);

ims_keys($t);
ims_pool($t);

# three workers, so that the flow's is seldom the one that has the core's link

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3,
    http => 'ims_link_queue 128k;'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));

for my $case ('ringing', 'answered', 'ACK') {
    my $c = ImsClient->new(user => "flood $case");
    ImsCall::registered($c, $core);

    my ($d, $text);
    my @pad = map { "X-Pad: " . 'x' x 8000 } 1 .. 4;

    if ($case eq 'ACK') {
        $d = ImsCall->calls($c, $core);
        $text = $d->from_client('ACK', cseq => 1, extra => \@pad);

    } else {
        $d = ImsCall->called($c, $core, $in, until => 'ringing');
        $d->reply(200, 'OK') if $case eq 'answered';
        $text = $d->reply_text($case eq 'ringing' ? (180, 'Ringing')
                                                  : (200, 'OK'),
                               extra => \@pad);
    }

    # the core reads nothing meanwhile

    my $before = counters();
    my $sent = 0;

    while ($sent < 2000
           && counters()->{core_link_full} - $before->{core_link_full} < 20)
    {
        # a response has the edge's branch, which is not to be touched
        $c->send($case eq 'ACK'
            ? $text =~ s/(branch=z9hG4bK)(?=\d)/$1$sent/r : $text)
            for 1 .. 20;
        $sent += 20;
    }

    cmp_ok(counters()->{core_link_full}, '>', $before->{core_link_full},
        "$case: over the limit");

    # it catches up: whole messages, on the connection that was there

    my %got;
    while (my ($m) = $core->request(1)) {
        $got{$m->{method} // $m->{status}}++;
    }
    my ($kind) = keys %got;
    is(scalar keys %got, 1, "$case: nothing else") or diag explain \%got;
    cmp_ok($got{$kind // ''}, '<', $sent, "$case: not all of $sent");

    is(counters()->{core_link_broken}, $before->{core_link_broken},
        "$case: the link is the same");

    # and the call is none the worse

    if ($case eq 'ringing') {
        is($d->reply(486, 'Busy')->{status}, 486, "$case: its end passes");

    } else {
        $c->send($d->from_client('BYE'));
        my ($m, $link) = $core->request();
        is($m ? $m->{method} : 'nothing', 'BYE', "$case: its end passes");
        $core->reply($link, $m, 200, 'OK');
    }

    $c->{ws}->drop();
}

is(ims_count_log($t, qr/takes nothing|no way back/), 0, 'nobody was blamed');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub counters { return ims_status()->{counters} }

###############################################################################
